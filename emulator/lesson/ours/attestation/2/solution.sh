#!/bin/sh
mkdir accepted refused
for file in ada.pka ben.pka; do
    if hsmemu attest $file; then mv $file accepted; else mv $file refused; fi
done
