#!/bin/sh
hsmemu lesson expect --card vault public_key_authentication.registered=3
