;; Message after message.
;; step: log: it wrote more than 1024 KiB of messages
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (call $log (i32.const 1) (i32.const 4096) (i32.const 200))
    (br $more))
  (unreachable))
