;; It says of itself what its manifest does not.
;; refused: (`describe`) is not what its manifest says
(data (i32.const 128) "\10\00\00\00\02\00\00\00")
(func (export "describe") (result i32)
  (i32.const 128))
