;; An error of 60 MiB.
;; step: xxxxxxxx
(data (i32.const 128) "\01\00\00\00\07\00\00\00\00\00\02\00\00\00\c0\03")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 1000)))
  (memory.fill (i32.const 131072) (i32.const 0x78) (i32.const 62914560))
  (i32.const 128))
