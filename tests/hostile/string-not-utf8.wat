;; A message that is no UTF-8.
;; step: utf-8
(data (i32.const 128) "\ff\fe\c0\80")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (call $log (i32.const 1) (i32.const 128) (i32.const 4))
  (i32.const 32))
