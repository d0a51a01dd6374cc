;; Nothing is wrong with it: the template itself is fit to fail a test.
;; well
