;; Control characters in an error.
;; step: owned
(data (i32.const 128) "\01\00\00\00\07\00\00\00\90\00\00\00\10\00\00\00\1b[2J\1b]0;owned\07\0d\0a")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (i32.const 128))
