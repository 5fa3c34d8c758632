#!/bin/sh
set -e
rm -f portal.url
hsmemu portal serve --update-any --listen 127.0.0.1:0 --data portal > portal.url &
until grep -qs ready portal.url; do sleep 0.05; done
