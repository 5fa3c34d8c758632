#!/bin/sh
hsmemu ram --reader DENK0404144 "$(head -n 1 portal.url)"
sc-hsm-tool
