#!/bin/sh
hsmemu lesson expect --card alice key_domains.*.missing=0
