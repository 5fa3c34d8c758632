#!/bin/sh
hsmemu lesson expect --card lab running.ejected=true --seen kind=cut-short && hsmemu lesson expect --card lab --seen command=LOAD
