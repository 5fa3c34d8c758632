#!/bin/sh
hsmemu lesson expect --card lab user_pin.state=blocked --kept keys.*.label=wages
