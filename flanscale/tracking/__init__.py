"""What is logged, under which names, and how does it reach W&B?"""
