;; A million texts that something is wrong.
;; step: and 999900 more
(data (i32.const 128) "\00\00\00\00\00\00\02\00\40\42\0f\00")
(func (export "verify") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 200)))
  (i32.const 128))
