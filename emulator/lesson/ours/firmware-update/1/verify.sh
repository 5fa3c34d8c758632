#!/bin/sh
set -e
hsmemu lesson expect --card lab running.ejected=true state=no-application --kept firmware!=3.6 --seen kind=cut-short
hsmemu lesson expect --card lab --seen command=LOAD
