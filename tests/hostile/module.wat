;; A core module, not a component.
;; refused: it is a core WebAssembly module, not a component
(module (func (export "converge")))
