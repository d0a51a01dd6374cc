;; Outputs of 100 MiB.
;; step: data: one call carried more than 64 MiB
(data (i32.const 128) "\00\00\00\00\00\00\02\00\00\00\40\06")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 1700)))
  (i32.const 128))
