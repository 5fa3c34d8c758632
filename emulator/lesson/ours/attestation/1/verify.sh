#!/bin/sh
hsmemu lesson expect --card lab keys.count=1 && hsmemu attest mine.pka
