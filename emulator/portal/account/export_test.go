package account

// ParseCode is what reads codes that people enter.
var ParseCode = parseCode
