#!/bin/sh
hsmemu lesson expect --card lab user_pin.state=blocked keys.*.label=wages
