;; Progress after progress.
;; step: log: it wrote more than 1024 KiB of messages
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (call $progress (i32.const 80) (i32.const 2) (i64.const 1) (i32.const 1) (i64.const -1) (i32.const 80) (i32.const 2))
    (br $more))
  (unreachable))
