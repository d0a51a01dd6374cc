;; An endless loop.
;; step: time: the step's time was over
;; timeout: 2s
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (loop $again (br $again))
  (unreachable))
