resource "null_resource" "ferry" {}
