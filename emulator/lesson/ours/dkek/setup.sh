#!/bin/sh
set -e
hsmemu card new alice
hsmemu card new bob
