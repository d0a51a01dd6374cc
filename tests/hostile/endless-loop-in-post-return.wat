;; It never ends cleaning up.
;; step: time: the step's time was over
;; timeout: 2s
(func (export "post") (param i32)
  (loop $again (br $again)))
