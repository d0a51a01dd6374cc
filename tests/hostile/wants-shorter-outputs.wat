;; It wants short outputs, and gives long ones.
;; step: its outputs are larger than 1 KiB
;; limits: {"outputs":"1KiB"}
(data (i32.const 128) "\00\00\00\00\00\10\00\00\01\08\00\00")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (i32.const 128))
