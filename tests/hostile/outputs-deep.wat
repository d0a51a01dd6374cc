;; Outputs that are nested a million deep.
;; step: its outputs are not JSON
(data (i32.const 128) "\00\00\00\00\00\00\02\00\40\42\0f\00")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 32)))
  (memory.fill (i32.const 131072) (i32.const 0x5b) (i32.const 1000000))
  (i32.const 128))
