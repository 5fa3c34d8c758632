#!/bin/sh
hsmemu lesson expect --card lab running.ejected=false state=no-application --kept firmware!=3.6 --seen command=SELECT,sw=6A82
