;; A text whose end is before its beginning.
;; step: out of bounds
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (call $log (i32.const 1) (i32.const -16) (i32.const 4096))
  (i32.const 32))
