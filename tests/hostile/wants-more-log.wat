;; It wants a longer log than is usual, and writes more than that.
;; step: log: it wrote more than 2048 KiB of messages
;; limits: {"log":"2MiB"}
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (call $log (i32.const 0) (i32.const 4096) (i32.const 8000))
    (br $more))
  (unreachable))
