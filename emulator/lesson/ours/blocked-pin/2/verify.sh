#!/bin/sh
hsmemu lesson expect --card lab user_pin.state=blocked --seen 'subject=user PIN,sw=6983'
