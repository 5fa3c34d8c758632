#!/bin/sh
HSMEMU_PIN=648219 hsmemu card authenticate --card vault --with carla --with emil
