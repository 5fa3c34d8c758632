#!/bin/sh
hsmemu lesson expect --card alice key_domains.*.shares=2 key_domains.*.missing=2
