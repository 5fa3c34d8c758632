#!/bin/sh
hsmemu card fault lab remove after=40
hsmemu ram --reader DENK0404144 "$(head -n 1 portal.url)"; true
