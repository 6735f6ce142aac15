"""What is predicted of the data: by the posterior, as the reference has it, and by every fit."""
