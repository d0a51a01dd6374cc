;; Outputs that lie beyond the memory.
;; step: out of bounds
(data (i32.const 128) "\00\00\00\00\ff\ff\ff\7f\02\00\00\00")
(func (export "converge") (param i32 i32 i32 i32) (result i32)
  (i32.const 128))
