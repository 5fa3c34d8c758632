#!/bin/sh
hsmemu lesson expect --card vault public_key_authentication.required=2 public_key_authentication.total=3
