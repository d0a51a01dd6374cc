;; The loop is in what looks afterwards.
;; step: time: the step's time was over
;; timeout: 2s
(func (export "verify") (param i32 i32 i32 i32) (result i32)
  (loop $again (br $again))
  (unreachable))
