;; Empty messages.
;; step: log: it wrote more than 1024 KiB of messages
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (call $log (i32.const 0) (i32.const 0) (i32.const 0))
    (br $more))
  (unreachable))
