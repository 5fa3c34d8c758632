#!/bin/sh
set -e
hsmemu card new lab --firmware 3.4 --serial DENK0404144
hsmemu portal serve --update-any --listen 127.0.0.1:0 --data portal > portal.url &
until grep -qs ready portal.url; do sleep 0.05; done
