;; Outputs of 60 MiB.
;; step: its outputs are larger than 1024 KiB
(data (i32.const 128) "\00\00\00\00\00\00\02\00\00\00\c0\03")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 1000)))
  (i32.const 128))
