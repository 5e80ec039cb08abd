"""One real relay under all attacks at once, with satellites that mean well."""
