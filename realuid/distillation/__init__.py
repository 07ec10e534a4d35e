"""The method: teachers, students, the fake network, and how they are trained."""
