;; It takes no hint that its time is over.
;; step: time: the step's time was over
;; timeout: 2s
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $more
    (call $pause (i32.const 10) (i32.const 128))
    (br $more))
  (unreachable))
