;; It says of itself 60 MiB.
;; refused: (`describe`) is not what its manifest says
(data (i32.const 128) "\00\00\02\00\00\00\c0\03")
(func (export "describe") (result i32)
  (drop (memory.grow (i32.const 1000)))
  (memory.fill (i32.const 131072) (i32.const 0x5b) (i32.const 62914560))
  (i32.const 128))
