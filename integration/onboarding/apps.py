from django.apps import AppConfig

__all__ = ["OnboardingConfig"]


class OnboardingConfig(AppConfig):
    name = "integration.onboarding"
    label = "onboarding"
    verbose_name = "Team onboarding"
    default_auto_field = "django.db.models.BigAutoField"
