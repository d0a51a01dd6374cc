;; Its limits are no amounts: each is named.
;; refused: `limits.memory`: `5MB` has no unit of B, KiB, MiB or GiB; action `do`: `limits.log`: `0B` is nothing; action `do`: `limits.calls`: `0` is nothing; action `do`: `limits.time`: `soon` is not a duration
;; limits: {"memory":"5MB","log":"0B","calls":0,"time":"soon"}
