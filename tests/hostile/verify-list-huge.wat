;; Ten million empty texts that something is wrong.
;; step: data: one call carried more than 64 MiB
(data (i32.const 128) "\00\00\00\00\00\00\02\00\80\96\98\00")
(func (export "verify") (param i32 i32 i32 i32) (result i32)
  (drop (memory.grow (i32.const 1300)))
  (i32.const 128))
