#!/bin/sh
set -e
hsmemu lesson expect --card lab running.ejected=true state=no-application --seen kind=cut-short
hsmemu lesson expect --card lab --seen command=LOAD
