#!/bin/sh
hsmemu lesson expect --card lab so_pin.state=blocked && hsmemu lesson expect --card spare so_pin.tries_left=15
