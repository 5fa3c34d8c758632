#!/bin/sh
set -- accepted/*
test $# = 1 && hsmemu attest "$1" && test -e refused/ben.pka
