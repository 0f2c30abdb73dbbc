import ganfleet  # noqa: F401  (first: it sets what MindSpore reads once, when it is imported)
