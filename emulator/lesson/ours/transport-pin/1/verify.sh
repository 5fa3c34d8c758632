#!/bin/sh
hsmemu lesson expect --card first --seen command=SELECT && hsmemu lesson expect --card second --seen command=SELECT
