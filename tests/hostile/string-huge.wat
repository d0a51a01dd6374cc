;; A message of 100 MiB.
;; step: data: one call carried more than 64 MiB
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 1600)))
  (call $log (i32.const 1) (i32.const 131072) (i32.const 104857600))
  (i32.const 32))
