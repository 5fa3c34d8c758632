#!/bin/sh
hsmemu ram --reader DENK0404145 "$(head -n 1 portal.url)"; true
