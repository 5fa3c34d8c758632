#!/bin/sh
hsmemu lesson expect --card lab keys.count=0 && hsmemu attest mine.pka
