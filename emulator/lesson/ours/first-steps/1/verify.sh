#!/bin/sh
hsmemu lesson expect --card lab --seen command=SELECT
